"""Experience to the training server, and models back, over NATS JetStream."""
