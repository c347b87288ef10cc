"""What is asked of annotators: data only."""
