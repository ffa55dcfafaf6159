"""Pretrained networks and the one reader of foreign weights."""
