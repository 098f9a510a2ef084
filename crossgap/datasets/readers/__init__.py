"""Readers of the forms that data come in: folders, tables, shards, repositories of the hub."""
