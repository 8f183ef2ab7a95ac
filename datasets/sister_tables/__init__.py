"""The sister_tables dataset: a hospital and a small clinic behind whose tables lie the same risks."""
