"""What a reader still answers from compressed contexts: tasks, methods, readers, figures."""
