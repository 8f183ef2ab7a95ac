"""Text generation: a pretrained decoder learns to go on in the manner of some texts, stage by stage."""
