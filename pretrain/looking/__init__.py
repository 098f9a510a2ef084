"""What a training that is over shows of itself: a summary in the terminal, a picture of its curves."""
