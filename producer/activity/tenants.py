"""The condition that bounds a query to what belongs to a tenant."""

OF_TENANT = "AND tenant = :tenant"


def of_tenant(tenant: str | None) -> tuple[str, dict[str, str]]:
    """The SQL condition, which follows others, with its parameters; None = all tenants."""
    return ("", {}) if tenant is None else (OF_TENANT, {"tenant": tenant})
