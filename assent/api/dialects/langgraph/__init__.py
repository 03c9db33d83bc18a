"""What LangGraph's server sends: its streams, folded from events."""
