"""The inbox: events and scans in, complete file versions out."""
