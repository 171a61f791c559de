"""`train`: fits policies anew from the whole history."""
