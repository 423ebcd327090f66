"""What every way trains: the plan's sizes and the training settings."""

LORA_RANK = 8  # on query and value
SERIAL_WIDTH = 24
PREFIX_LENGTH = 10  # flat

LEARNING_RATE = 1e-3
WARMUP_RATIO = 0.1  # then linear to 0
WEIGHT_DECAY = 0.01
MAX_GRAD_NORM = 1.0
MAX_LENGTH = 128  # tokens
