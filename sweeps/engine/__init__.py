"""Plans become artifacts: the queue of stages, Ray Tune, Optuna's journal, machines and clusters."""
