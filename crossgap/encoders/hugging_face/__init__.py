"""CLIP, SigLIP and SigLIP 2 as the library ``transformers`` keeps them, read into open_clip's towers.

The weights are put into the towers of open_clip and timm that compute the same, so that everything that is
known of those (injection, lean passes, projectors) holds here. Text and images are made ready by the
folder's own tokenizer and image processor.
"""
