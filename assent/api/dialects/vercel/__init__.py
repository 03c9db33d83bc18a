"""What the AI SDK sends and reads: a turn of a conversation as chunks of one message."""
