"""The live feed, the local exchange and the prediction service: never torch."""
