"""What an implementation must offer to be judged, and how it is run: problems, sessions, manifests, execution."""
