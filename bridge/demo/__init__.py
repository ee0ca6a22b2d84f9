"""The main job over a small library: a two-hop question answerer, through a spawned daemon."""
