# site.sls holds no secret: every node may read it. Secrets reach each node through the ext_pillar `rpiomega`.
base:
  '*':
    - site
