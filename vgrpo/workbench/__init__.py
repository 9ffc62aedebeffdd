"""`vgrpo ui`: a local page over the folders of runs, live while they go on."""
