"""Networks that several files use. The others live in their method's file."""
