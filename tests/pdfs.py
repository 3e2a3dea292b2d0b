"""Minimal hand-written PDF files."""

from __future__ import annotations


def pdf(*lines: str) -> bytes:
    """Return a document with a page per line; a line may consist of PDF operators."""
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(len(lines)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(lines)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    look = "/MediaBox [0 0 900 100] /Resources << /Font << /F1 3 0 R >> >>"
    for number, line in enumerate(lines):
        content = f"BT /F1 12 Tf 10 50 Td {line if line.startswith(('[', '(')) else f'({line}) Tj'} ET"
        objects += [
            f"<< /Type /Page /Parent 2 0 R {look} /Contents {5 + 2 * number} 0 R >>",
            f"<< /Length {len(content)} >>\nstream\n{content}\nendstream",
        ]
    written, places = "%PDF-1.4\n", []
    for number, each in enumerate(objects, 1):
        places.append(f"{len(written):010} 00000 n \n")
        written += f"{number} 0 obj\n{each}\nendobj\n"
    table = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{''.join(places)}"
    trailer = f"trailer << /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{len(written)}\n%%EOF"
    return f"{written}{table}{trailer}".encode("latin-1")
