include:
  - docker.repository
  - docker.install
  - docker.config
  - docker.service
