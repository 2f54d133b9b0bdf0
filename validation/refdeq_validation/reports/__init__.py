"""Reports for people and machines: JSON, HTML, JUnit, summary, badge."""
