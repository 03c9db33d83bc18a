"""The shapes of answers, for the OpenAPI document: what the views of the same names return. A test
holds every answer of every other test to them."""
