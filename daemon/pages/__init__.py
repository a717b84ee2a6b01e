"""What the HTML report and the web pages share: figures, charts, style and templates."""
