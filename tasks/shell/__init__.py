"""What surrounds every command: options, errors for people, progress and logs."""
