{#- Before any state installs something: a power cut in the middle of an installation leaves apt refusing all work. -#}
packages.dpkg:
  dpkg.configured:
    - order: first
