"""A picture to look at: one red point, as PNG in base64."""

RED_POINT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
RED_POINT_URL = f"data:image/png;base64,{RED_POINT}"
