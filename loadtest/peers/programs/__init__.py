"""One small program per server: what its documentation would have you write to serve the same ticket."""
