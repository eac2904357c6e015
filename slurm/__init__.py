"""The machines of a cluster: profiles, SLURM's queue, and the jobs that become Ray nodes. Knows nothing of distillation."""
