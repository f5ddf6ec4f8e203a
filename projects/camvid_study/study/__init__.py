"""Dynamic networks against static ones on CamVid."""
