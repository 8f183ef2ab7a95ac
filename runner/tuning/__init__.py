"""Many runs of one template: a search for settings, and the same settings from several seeds."""
