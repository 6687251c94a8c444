"""Which of several equivalent lowerings a function takes on which machine."""
