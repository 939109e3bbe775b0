"""The judge: attacks a defence, computes its scores, and checks whether they can be trusted."""
