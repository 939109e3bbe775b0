"""Networks that at least two methods use. The others live in their method's file."""
