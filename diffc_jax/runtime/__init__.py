"""What training, evaluation and file formats need from the machine: devices, files, checkpoints, logs."""
