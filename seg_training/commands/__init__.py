"""The commands: options, and what each prints; what they explain is declared without torch, which takes seconds."""
