"""The subcommands of the program pytest-netns."""
