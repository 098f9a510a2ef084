"""Optuna studies over objectives and inversion settings."""
