"""What a run is trained on: prompts and the rewards that judge them."""
