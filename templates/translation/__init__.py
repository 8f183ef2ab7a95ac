"""Translation: a pretrained encoder and a new decoder learn to translate, stage by stage."""
