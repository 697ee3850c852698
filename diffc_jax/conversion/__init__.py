"""Published weights of other projects, converted to exported parameters of ours."""
