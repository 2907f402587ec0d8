"""The bytes of image files beside their pixels: chunks, boxes, segments and tags, and the parts of animations."""
