"""Where prompts come from: files, data sets, generators, and what is held out."""
