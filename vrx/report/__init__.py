"""The paper's tables and figures as text and pages: what is compared, how it is written down."""
