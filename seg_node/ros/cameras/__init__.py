"""What a segmentation node has of each camera: names, parameters and topics."""
