"""State packages."""


def test_the_packages_of_formula_and_site_are_installed(host, site):
    wanted = site["packages"]["development"] + site["packages"]["extra"]
    missing = [package for package in wanted if not host.package(package).is_installed]
    assert missing == [], f"not installed: {', '.join(missing)}"
