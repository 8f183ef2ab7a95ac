"""Token classification: a pretrained encoder learns to find the entities in texts, stage by stage."""
