"""Routes outside the oneM2M tree, and the error shape they share."""
