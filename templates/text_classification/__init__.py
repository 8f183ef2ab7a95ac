"""Text classification: a pretrained encoder learns the classes of labelled texts, stage by stage."""
