"""What master and worker say to each other, without any I/O."""
