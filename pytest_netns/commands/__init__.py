"""The subcommands of the program pytest-netns that work on a topology in a file."""
