"""A plan in, clips out: on processes, Ray or Slurm."""
