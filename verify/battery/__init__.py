"""The battery: named checks of all promises that a layer makes to its users."""
